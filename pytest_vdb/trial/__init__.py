"""Base and candidate side by side, mutations, calibration: what runs models beside a test."""
