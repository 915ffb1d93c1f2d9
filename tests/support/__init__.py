"""What tests share: processes, networks, disks, peers that misbehave, and how to look at them."""
