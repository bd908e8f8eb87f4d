"""How a program runs: prompts, models, modules, backends."""
