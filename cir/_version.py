"""The version of both distributions: the client and the services are released together."""

__version__ = "0.1.0"
