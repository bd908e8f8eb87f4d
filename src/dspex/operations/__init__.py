"""How a program lives: resources, storage, jobs."""
