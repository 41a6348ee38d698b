"""Who runs what where: DVC's stages side by side, in processes that stay warm."""
