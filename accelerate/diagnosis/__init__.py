"""What ``doctor`` finds out about a machine, from files that a folder of another machine may hold as well."""
