"""The objects of the services."""
