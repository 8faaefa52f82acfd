"""One door for image files: decoded, checked for damage, turned upright, fitted to a size."""
