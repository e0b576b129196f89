include accel-devices.mak
CONFIG_VFIO=y
CONFIG_VFIO_PCI=y
