"""The kit's own networks: how they are trained, scored on real patients and packed, and what phantoms are worth."""
