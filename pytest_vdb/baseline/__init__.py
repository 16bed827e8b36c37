"""What measurements are compared with: schema, identity, store and update."""
