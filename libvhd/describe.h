// What `info` shows of a VHD.
#pragma once

#include "disk/description.h"
#include "libvhd/footer.h"
#include "libvhd/parent_locator.h"

namespace vhdkit::libvhd {

struct DynamicImage;

// The footer's fields, and where it was found.
disk::Description describe_footer(const FoundFooter& found);
// The Dynamic Disk Header's fields; of a differencing image the parent's too.
void describe_header(const DynamicImage& image, disk::Description& description);
// Adds "warnings" where the image is damaged but readable.
void describe_warnings(const FoundFooter& found, const std::vector<LocatedParent>& located,
                       disk::Description& description);

}  // namespace vhdkit::libvhd
