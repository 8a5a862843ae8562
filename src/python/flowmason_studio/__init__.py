"""FlowMason's trigger services, backed by triggerd: what was written for them runs against a daemon.

Only what has to do with triggers; install it where FlowMason Studio itself is not.
"""
