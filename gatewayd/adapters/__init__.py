"""The edge: one module or package per thing outside. Adapters never import each other."""
