"""What the service is compared with: one file each, all of them over the service's own tables."""
