// out
