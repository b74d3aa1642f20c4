"""What torch's SummaryWriter can be asked, checked where it is called."""
