"""What loadtest/run is made of."""
