"""Parts that pages share: documents, charts, images, samples."""
