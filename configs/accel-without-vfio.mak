# Without VFIO there is no iommufd either.  QEMU with VFIO needs vfio-pci to link.
include accel-devices.mak
