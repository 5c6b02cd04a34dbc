"""What a job's log has to show: its curves and marks, and the page that holds them."""
