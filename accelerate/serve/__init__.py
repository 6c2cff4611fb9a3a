"""Front ends for other programs: models behind the protocols of their servers."""
