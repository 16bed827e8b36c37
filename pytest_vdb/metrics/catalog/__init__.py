"""The package's metrics as data, one family a file: what is computed, from what, how it is read.

Light: code is named as ``module:function`` and imported when it is computed.
"""
