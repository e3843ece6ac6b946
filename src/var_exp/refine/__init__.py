"""Class competition and its rivals: each takes the maps of K classes and refines all of them."""
