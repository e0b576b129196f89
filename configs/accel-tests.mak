# What the builds for this computer hold.
include accel-without-iommufd.mak
CONFIG_IOMMUFD=y
