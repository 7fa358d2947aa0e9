"""Rate limits: the policies, their application to requests, and the counting."""
