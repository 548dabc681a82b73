"""How the small CLIP that ships was trained; see README.md beside the weights in embedder_service/shipped."""
