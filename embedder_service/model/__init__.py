"""The CLIP model: its weights, its towers, its dtype and the device it runs on. Needs torch."""
