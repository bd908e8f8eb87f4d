"""Workspaces with their quotas, API keys and secrets.

Programs and all later rooms may import it.
"""
