"""`python -m cir_mcp` runs the server."""

from cir_mcp.server import main

main()
