"""What resources, actions, policies, stores and queries are; it knows no resource by name.

Each resource is described once: tables, API types and documentation are derived from it. Every
other room of `operations` may import this one.
"""
