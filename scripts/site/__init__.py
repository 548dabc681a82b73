"""The documents as a site, with references of the contract and of the Python client: `make docs`."""
