"""Who may use which device."""
