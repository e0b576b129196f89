# The virt machine and the devices that tests put below, beside and in place of
# an SMMUv3.
CONFIG_ARM_VIRT=y

# pxb-pcie does not link without the CXL code, nor that without its memory device
CONFIG_PXB=y
CONFIG_CXL=y
CONFIG_CXL_MEM_DEVICE=y
CONFIG_PCI_BRIDGE=y
CONFIG_PCIE_PORT=y
CONFIG_XIO3130=y
CONFIG_PCIE_PCI_BRIDGE=y
CONFIG_PCI_TESTDEV=y
# it does DMA by a few register writes
CONFIG_EDU=y
# it has a BAR of memory, and no driver in Linux
CONFIG_IVSHMEM_DEVICE=y

CONFIG_NVME_PCI=y
CONFIG_E1000E_PCI_EXPRESS=y
CONFIG_IGB_PCI_EXPRESS=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SCSI=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VIRTIO_IOMMU=y
CONFIG_VIRTIO_MEM=y

# for the base's own bios-tables-test
CONFIG_NVDIMM=y
CONFIG_USB_XHCI_PCI=y
CONFIG_USB_STORAGE_BOT=y
