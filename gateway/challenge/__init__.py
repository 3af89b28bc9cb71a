"""What a doubtful caller has to show before they get a purchase token."""
