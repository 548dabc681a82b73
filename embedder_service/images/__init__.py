"""From the bytes of an image file to the pixels that CLIP takes; needs Pillow and numpy, not torch."""
