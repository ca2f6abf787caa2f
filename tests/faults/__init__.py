"""The fault campaign: a real gateway, everything around it failing, and a recorder that believes nothing.

site.py     the gateway among simulated surroundings, with a broker, a link, a disk and a clock that can fail
disk.py     a file system of the site's own: full, or read-only
faults.py   the table of faults: how each begins and how it heals
claims.py   what must be true afterwards, judged from the wire and from what the wearer was told
episode.py  one life of a site: faults in turn, or at random from a seed
"""
