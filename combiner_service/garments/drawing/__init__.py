"""Shapes of the kinds: outlines, seams and details, without colour."""
