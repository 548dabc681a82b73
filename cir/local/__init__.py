"""All services on this machine, as child processes of one command."""
