"""From measurements and image to what radiologists grade: models of eight findings, herniation as `triplanar` reports it."""
