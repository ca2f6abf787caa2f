"""What touches the world: one thin module per outside thing; none imports another."""
