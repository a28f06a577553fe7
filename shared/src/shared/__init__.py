"""What two or more services need: the message contract and the way messages travel.

Nothing enters this package before two services need it.
"""
