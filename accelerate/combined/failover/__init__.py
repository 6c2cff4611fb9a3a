"""Failover: one Model made of several, of which another one answers where the first cannot."""
