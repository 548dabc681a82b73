"""The `cir` command, and what starts the services on one machine.

It may import every other package; none imports it.

Commands import what is heavy (torch, pyarrow, the store's engines) when they are called;
the `run_...` modules are those halves."""
