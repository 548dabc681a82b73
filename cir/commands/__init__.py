"""The `cir` command, one file a subcommand."""
