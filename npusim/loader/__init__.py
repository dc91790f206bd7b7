"""Files and buffers that hold programs: .cvimodel, command buffers, dmabufs; reading and writing."""
