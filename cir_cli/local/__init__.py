"""Services on one machine: their plan, their processes, and the file that says where they are."""
