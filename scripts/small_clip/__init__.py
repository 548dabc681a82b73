"""The training of the small CLIP that ships; embedder_service/shipped/cir-small.md describes it."""
