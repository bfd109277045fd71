"""Do margins help with unseen characters if margin and scale of each are searched?"""
