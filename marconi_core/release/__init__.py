"""What is published: one archive to deposit, our wheels, and an audit of the packages that are locked."""
