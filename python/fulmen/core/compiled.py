def to_uncompiled(m): return m
