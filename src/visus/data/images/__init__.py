"""Decoding of image files: damage checks, EXIF orientation, conversion to 8 bits, resizing."""
