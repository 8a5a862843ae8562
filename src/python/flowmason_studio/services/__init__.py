"""The services: get_trigger_service() and get_trigger_storage()."""
