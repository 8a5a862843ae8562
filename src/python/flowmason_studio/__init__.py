"""FlowMason's trigger services, backed by triggerd: what was written for them runs against a daemon.

Only what has to do with triggers; install it where FlowMason Studio itself is not.
"""

try:
    from triggerd import Client as _Client  # noqa: F401
except ImportError as error:
    raise ImportError("flowmason_studio needs triggerd's own client, of the same clone: pip install ./src/python "
                      "(the package index has another `triggerd`)") from error
