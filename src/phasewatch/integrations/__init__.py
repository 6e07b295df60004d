"""Phases of trainers and engines that are not ours, one file each; each imports its framework when it is asked for."""
